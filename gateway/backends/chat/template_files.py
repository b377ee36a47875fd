"""Where a model's chat template stands: a Jinja file, `tokenizer_config.json`, or a folder that holds either.

Source: Hugging Face's layout. `chat_template` in the JSON is one text, or a list of named ones of which `tool_use` is
for requests with tools; newer models keep it beside, in `chat_template.jinja`, and others in
`additional_chat_templates/NAME.jinja`. Control tokens are told by the JSON in any case.
"""

from pathlib import Path

import msgspec

from gateway.backends.backend import BackendLoadError

KEY = "chat_template"
REMEDY = "name a Jinja file, Hugging Face's tokenizer_config.json, or the folder that holds them"
CONFIG, BESIDE = "tokenizer_config.json", "chat_template.jinja"
TOOL_USE_BESIDE = "additional_chat_templates/tool_use.jinja"


class _Token(msgspec.Struct):
    """A control token as HF writes it: its text, or an object that holds it."""

    content: str
    special: bool = True


class _Named(msgspec.Struct):
    name: str
    template: str


class _Config(msgspec.Struct):
    chat_template: str | list[_Named] | None = None
    bos_token: str | _Token | None = None
    eos_token: str | _Token | None = None
    pad_token: str | _Token | None = None
    unk_token: str | _Token | None = None
    add_bos_token: bool | None = None
    additional_special_tokens: list[str | _Token] | None = None
    added_tokens_decoder: dict[str, _Token] | None = None


class TemplateFiles(msgspec.Struct, frozen=True):
    """What was found: templates by name, the values of the named tokens, and all control tokens.

    `adds_bos`: whether the model's tokenizer puts the BOS token before each text; None where the file does not tell.
    """

    templates: dict[str, str]
    variables: dict[str, str]
    control_tokens: frozenset[str]
    adds_bos: bool | None


def read_template_files(path: str) -> TemplateFiles:
    """Read a model's template and what belongs to it. Raises BackendLoadError."""
    try:
        return _read(Path(path))
    except (OSError, UnicodeDecodeError) as exc:
        raise BackendLoadError(KEY, f"{path} can't be read ({type(exc).__name__})", REMEDY) from exc
    except (msgspec.DecodeError, RecursionError) as exc:
        raise BackendLoadError(KEY, f"{path} is not as Hugging Face writes it ({exc})", REMEDY) from exc


def _read(path: Path) -> TemplateFiles:
    if not path.exists():
        # Before its folder is looked at: what lies there is another template.
        raise BackendLoadError(KEY, f"{path} is not there", REMEDY)
    folder = path if path.is_dir() else path.parent
    is_json = path.suffix == ".json"
    config_path = path if is_json else folder / CONFIG
    config = msgspec.json.decode(config_path.read_bytes(), type=_Config) if config_path.is_file() else _Config()
    templates = {"default": path.read_text("utf-8")} if path.is_file() and not is_json else _named(config, folder)
    if not templates:
        raise BackendLoadError(KEY, f"{path} holds no chat template", REMEDY)
    named = {
        name: token if isinstance(token, str) else token.content
        for name in ("bos_token", "eos_token", "pad_token", "unk_token")
        if (token := getattr(config, name)) is not None
    }
    return TemplateFiles(templates, named, _control_tokens(config, named), config.add_bos_token)


def _named(config: _Config, folder: Path) -> dict[str, str]:
    """Return the templates by name; a file beside stands before the text in the JSON, as for transformers."""
    inside = config.chat_template or []
    found = {"default": inside} if isinstance(inside, str) else {one.name: one.template for one in inside}
    for name, beside in (("default", BESIDE), ("tool_use", TOOL_USE_BESIDE)):
        if (folder / beside).is_file():
            found[name] = (folder / beside).read_text("utf-8")
    return found


def _control_tokens(config: _Config, named: dict[str, str]) -> frozenset[str]:
    listed = [one if isinstance(one, str) else one.content for one in config.additional_special_tokens or ()]
    added = [token.content for token in (config.added_tokens_decoder or {}).values() if token.special]
    return frozenset((*named.values(), *listed, *added))
