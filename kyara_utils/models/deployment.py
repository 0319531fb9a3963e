"""Commands that serve a model elsewhere: vLLM, SGLang, llama.cpp and Ollama, made for the model at hand."""

import json
import shlex
from dataclasses import dataclass
from pathlib import Path

from kyara_utils.models.chat_templates import TURN_END
from kyara_utils.models.gguf_export import ARCHITECTURES
from kyara_utils.models.gguf_file import read_gguf

ROOM = 8192  # tokens of context at most: what a model can do beyond costs memory that a chat does not need
# Gemma's turns in Ollama's template language (Go's text/template), to the letter as `chat_templates.CHAT_TEMPLATE` puts
# them: a system turn opens the first question's, every finished turn has its end. Without a template of its own Ollama
# sends bare text to an imported file (its docs/template.md).
OLLAMA_TEMPLATE = """\
{{- $opened := false }}
{{- range .Messages }}
{{- if eq .Role "system" }}<start_of_turn>user
{{ .Content }}

{{ $opened = true }}
{{- else if eq .Role "user" }}{{ if not $opened }}<start_of_turn>user
{{ end }}{{ .Content }}<end_of_turn>
{{ $opened = false }}
{{- else }}<start_of_turn>model
{{ .Content }}<end_of_turn>
{{ end }}
{{- end }}<start_of_turn>model
"""


@dataclass(frozen=True)
class Command:
    """How one engine serves a model: lines for a shell, and what has to be known first."""

    engine: str
    shell: str
    note: str = ""


def commands(path: Path, name: str) -> list[Command]:
    """Return the commands for a model folder (config.json, weights, perhaps `model.gguf`) or a GGUF file.

    name: what the model is called at the server. vLLM and SGLang read the folder, llama.cpp and Ollama the file; a
    family that `gguf_export` does not write is converted by llama.cpp's own script first.
    """
    path = Path(path)
    config, gguf = _config(path), path / "model.gguf" if path.is_dir() else path
    found = _folder_commands(path, name, config) if config else []
    return found + (_gguf_commands(gguf, name, _room(config)) if gguf.is_file() else [_conversion(path)])


def _config(path: Path) -> dict:
    file = path / "config.json"
    content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return content.get("text_config") or content


def _room(config: dict) -> int:
    return min(config.get("max_position_embeddings") or ROOM, ROOM)


def _folder_commands(folder: Path, name: str, config: dict) -> list[Command]:
    gemma = config.get("model_type") in ARCHITECTURES
    dtype = "bfloat16" if gemma else "auto"
    note = "Gemma overflows in fp16; on a GPU without bf16 (T4) write float32" if gemma else ""
    place, called, room = shlex.quote(str(folder)), shlex.quote(name), _room(config)
    return [
        Command(
            "vLLM",
            f"vllm serve {place} --served-model-name {called} --dtype {dtype} --max-model-len {room} --port 8000",
            note,
        ),
        Command(
            "SGLang",
            f"python -m sglang.launch_server --model-path {place} --served-model-name {called} "
            f"--dtype {dtype} --context-length {room} --port 30000",
            note,
        ),
    ]


def _gguf_commands(gguf: Path, name: str, room: int) -> list[Command]:
    place, called = shlex.quote(str(gguf)), shlex.quote(name)
    template = ollama_template(gguf)
    note = "" if template else "Ollama has to know this family's turns by itself; look with --check"
    created = f"cat > Modelfile <<'END'\n{modelfile(gguf, template, room)}END\nollama create {called} -f Modelfile"
    return [
        Command("llama.cpp", f"llama-server -m {place} --alias {called} --jinja -c {room} --port 8080"),
        Command("Ollama", f"{created} && ollama run {called}", note),
    ]


def ollama_template(gguf: Path) -> str:
    """Gemma's turns for a Gemma that has a chat template, bare text for a model without one, else ""."""
    fields = read_gguf(gguf).fields
    if "tokenizer.chat_template" not in fields:
        return "{{ .Prompt }}"
    known = {name for name, _ in ARCHITECTURES.values()}
    return OLLAMA_TEMPLATE if fields["general.architecture"].value in known else ""


def modelfile(gguf: Path, template: str, room: int = ROOM) -> str:
    """Return an Ollama Modelfile: file, template if any, where Gemma's turns end, context, greedy answers."""
    lines = [f"FROM {gguf}"] + ([f'TEMPLATE """{template}"""'] if template else [])
    lines += [f'PARAMETER stop "{TURN_END}"'] if template == OLLAMA_TEMPLATE else []
    return "\n".join([*lines, f"PARAMETER num_ctx {room}", "PARAMETER temperature 0"]) + "\n"


def _conversion(folder: Path) -> Command:
    place = shlex.quote(str(folder))
    return Command(
        "llama.cpp, Ollama",
        f"python convert_hf_to_gguf.py {place} --outfile {place}/model.gguf --outtype q8_0",
        "the script is llama.cpp's; ask again afterwards for the commands with the file",
    )
