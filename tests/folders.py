"""Folders that tests write: text in both scripts, files by name, and published files under names of their own."""

from dataclasses import replace

from kyara_utils.evaluation.published import REGISTRY

HANT = "臺灣的軟體產業發展迅速，許多工程師在新竹科學園區工作，設計出全世界使用的晶片，也帶動了周邊的經濟。"
HANS = "台湾的软件产业发展迅速，许多工程师在新竹科学园区工作，设计出全世界使用的芯片，也带动了周边的经济。"


def write(folder, files):
    """Write {path: text or bytes} under `folder` and return it."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def publish(folder, files, monkeypatch):
    """Write {name in REGISTRY: text} where the published files would lie, and let any content pass; return `folder`."""
    for name in files:
        monkeypatch.setitem(REGISTRY, name, replace(REGISTRY[name], sha256="", size=0))
    return write(folder, {REGISTRY[name].place: text for name, text in files.items()})
