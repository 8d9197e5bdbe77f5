"""The messages of Hydra and OmegaConf about a value or an override, in this package's words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from cis_seg.errors import ConfigError

#: typographic characters that editors, chats and web pages put in place of the ASCII ones
ASCII = str.maketrans(
    {
        **dict.fromkeys("\u201c\u201d\u201e\u00ab\u00bb", '"'),
        **dict.fromkeys("\u2018\u2019\u201a", "'"),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"),
        "\uff1d": "=",
        "\uff0c": ",",
        "\u00a0": " ",
    }
)


@dataclass(frozen=True)
class Translation:
    """One of these messages; the texts may use ``{key}``, the option, and the pattern's own groups.

    Args:
        pattern: matches the start of their message.
        problem, expected, remedy: of the ``ConfigError``.
    """

    pattern: str
    problem: str
    expected: str | None
    remedy: str


WRONG = "{key}: invalid value"
OF_TYPE = r"Value '(?P<found>.*)' of type '\w+' could not be converted to "
TRANSLATIONS = (
    Translation(rf"{OF_TYPE}Integer", WRONG, "a whole number, such as 4", "set {key}=N, without a decimal point, exponent or unit"),
    Translation(rf"{OF_TYPE}Float", WRONG, "a number, such as 0.5 or 1e-3", "set {key}=NUMBER, with a decimal point and without a unit"),
    Translation(rf"{OF_TYPE}\w+", WRONG, "a different type of value", "--help shows the option with its value"),
    Translation(r"Value '(?P<found>.*)' is not a valid bool", WRONG, "true or false", "set {key}=true or {key}=false"),
    Translation(r"Cannot convert '(?P<found>\w+)' to string", WRONG, "a string", "set {key}=TEXT, without brackets or braces"),
    Translation(r"Invalid value assigned: (?P<found>\w+) is not a ListConfig", WRONG, "a list", "set {key}=[VALUE], with brackets"),
    Translation(r"field '.*' is not Optional", "{key}: null is not allowed", "a value", "set {key}=VALUE, or leave it out for the default"),
    Translation(
        r"Invalid type assigned: (?P<found>\w+) is not a subclass|Cannot merge DictConfig with (?P<found_>\w+)",
        "{key} is a group of options and has no value of its own",
        None,
        "set the options in it one by one, as in {key}.OPTION=VALUE",
    ),
    Translation(r"Interpolation key '(?P<name>.*)' not found", "{key}: there is no option {name} for ${{{name}}}", None, "check the name"),
    Translation(
        r"Unsupported interpolation type (?P<name>\w+)",
        "{key}: ${{{name}:...}} is unknown",
        "${{OPTION}}, or ${{oc.env:VARIABLE}} for an environment variable",
        "correct it, and put the override in single quotes for the shell",
    ),
    Translation(
        r"KeyError raised while resolving interpolation: \"Environment variable '(?P<name>.*)' not found",
        "{key}: the environment variable {name} is not set",
        None,
        "set it (export {name}=...), or give a default: ${{oc.env:{name},DEFAULT}}",
    ),
    Translation(r"Recursive interpolation", "{key}: the value refers to itself", None, "write the value out"),
    Translation(
        r"Ambiguous value for argument '(?P<argument>[^=]*=.*)'\n",
        "{argument}: several values for one option",
        "one value; use a decimal point, not a comma; put lists in brackets, as in [1,2]",
        "for one run per value add -m; quote a string that contains commas: \"key='a,b'\"",
    ),
    Translation(
        r"Could not append to config. An item is already at '(?P<name>.*)'",
        "{name} exists already",
        None,
        "leave out the + in front of {name}",
    ),
    Translation(r"\w+ \(DictConfig\) does not support deletion", "{key} cannot be deleted", None, "set it to null or to another value"),
    Translation(r"Could not delete from config. '(?P<name>.*)' does not exist", "~{name}: there is no such option", None, "check the name"),
    Translation(
        r"(?P<name>\S+) appears more than once in the final defaults list",
        "+{name} adds a second choice to the group {name}",
        None,
        "leave out the + in front of {name}",
    ),
    Translation(
        r"Could not override '(?P<name>\S+@\S*)'",
        "{name}: a group cannot be placed elsewhere",
        "GROUP=CHOICE",
        "leave out the @ and what follows",
    ),
    Translation(
        r"Could not override '(?P<name>\w+)'\.?\s+No match in the defaults list",
        "this command has no option or group {name}",
        None,
        "--help lists what it has",
    ),
    Translation(
        r"Cannot find primary config '(?P<name>[^']*)'",
        "there is no config {name}",
        None,
        "leave out --config-name; experiment=NAME chooses one",
    ),
    Translation(r"In '.*': Could not load '(?P<name>.*)'", "there is no config {name}", None, "check the names in the list defaults"),
    Translation(
        r"Config group override must be a string or a list. Got (?P<found>\w+)",
        "an override of a config group names no choice",
        "GROUP=CHOICE",
        "write the name of a choice",
    ),
    Translation(
        r"Additional config directory '(?P<name>.*)' not found", "there is no folder {name}", "the folder of --config-dir", "check the path"
    ),
)


def translated(messages: Sequence[tuple[str, str | None]], file: str | None) -> ConfigError | None:
    """Return the error for the first message that is known.

    Args:
        messages: text and option of each exception, the outermost first.
        file: the config file that was being read.
    """
    for text, key in messages:
        for known in TRANSLATIONS:
            if match := re.match(known.pattern, text):
                key = key or "the top of the file"
                words = {name.rstrip("_"): value for name, value in match.groupdict().items() if value is not None}
                problem, remedy = (line.format(key=key, **words) for line in (known.problem, known.remedy))
                found = words.get("found")
                shown = "''" if found == "" else found
                if found == "None":
                    remedy = f"write {key}=null for no value"
                elif found is not None and re.fullmatch(r"\d+\.0", found) and "whole" in str(known.expected):
                    remedy = f"set {key}={found[:-2]}"
                return ConfigError(problem, where=file, expected=known.expected and known.expected.format(), found=shown, remedy=remedy)
    return None


def unreadable(override: str) -> ConfigError:
    """Return the error for an override that Hydra cannot parse, with the most probable cause."""
    key, _, value = override.partition("=")
    plain = override.translate(ASCII)
    if plain != override:
        strange = sorted(set(override) - set(plain))
        problem, remedy = f"typographic characters: {' '.join(strange)}", f"retype them in ASCII: {plain.lstrip('-')}"
    elif not re.fullmatch(r"[+~]*\w[\w./@:-]*\w|[+~]*\w", key):
        problem, remedy = f"{key or 'nothing'} is not the name of an option", "--help lists the options; leave out an empty argument"
    elif value.count("[") != value.count("]") or value.count("{") != value.count("}") or value.count("(") > value.count(")"):
        problem, remedy = "a bracket is not closed", 'close it; if the value has spaces, quote the override for the shell: "key=[1, 2]"'
    elif value.rstrip().endswith((",", ";")):
        problem, remedy = f"it ends with {value.rstrip()[-1]}", f"remove it: {override.rstrip(' ,;')}"
    elif value.startswith("(") and value.endswith(")"):
        problem, remedy = "parentheses instead of square brackets", f"write {key}=[{value[1:-1]}]"
    elif re.search(r"\s\S+=", value):
        problem, remedy = "several overrides in one", "separate them by spaces outside the quotes"
    else:
        problem, remedy = "special characters", "quote the value for Hydra, and all of it for the shell: \"key='a=b'\""
    return ConfigError(f"the override {override} cannot be read", expected="key=value", found=problem, remedy=remedy)
