"""One pure function per loss; they depend on torch and torchvision only."""
