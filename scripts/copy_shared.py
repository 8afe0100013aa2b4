"""Copy modules that several packages need and may not import from one another, and twins of modules.

    python scripts/copy_shared.py [--check]

`--check` writes nothing and fails when a copy differs from its original.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

PACKAGES = Path(__file__).resolve().parent.parent / "packages"
CORE = "microservice-core/src/microservice_core"
NACOS_CLIENT = "nacos-client/src/nacos_client"
LITE_REGISTRY = "lite-registry/src/lite_registry"
CLIENT_HTTP = "microservice-client/src/microservice_client/http"

COPIES = {
    f"{CORE}/_backoff.py": (NACOS_CLIENT, LITE_REGISTRY),
    f"{CORE}/_retry_after.py": (LITE_REGISTRY,),
    f"{CORE}/_supervision.py": (NACOS_CLIENT, LITE_REGISTRY),
    f"{CORE}/_loop_wind_up.py": (NACOS_CLIENT,),
    f"{CORE}/_after_fork.py": (NACOS_CLIENT,),
    f"{NACOS_CLIENT}/_run_uncancelled.py": (f"{LITE_REGISTRY}/provider", CLIENT_HTTP),
}
# The same test in each package; below `extras` it looks at the modules that need an extra.
PUBLIC_SURFACE = "microservice-core/tests/test_public_surface.py"
WITH_EXTRAS = ("lane-router", "lite-registry", "microservice-kit", "nacos-client")
COPIES[PUBLIC_SURFACE] = (
    *(
        f"{path.name}/tests"
        for path in sorted(PACKAGES.iterdir())
        if path.is_dir() and path.name != "microservice-core"
    ),
    *(f"{name}/tests/extras/test_public_surface_of_extras.py" for name in WITH_EXTRAS),
)
# httpx2 is httpx under another name: what is written for one is written for the other.
CLIENTS = "lane-router/src/lane_router/instrumentation"
TWINS = {f"{CLIENTS}/httpx_clients.py": (f"{CLIENTS}/httpx2_clients.py", r"\bhttpx\b", "httpx2")}
# The two packages have an error of the same name for a document that cannot be read.
DOCUMENTS = "_documents"
TWINS |= {
    f"{CORE}/{DOCUMENTS}/{path.name}": (
        f"{LITE_REGISTRY}/{DOCUMENTS}/{path.name}",
        r"\bmicroservice_core\b",
        "lite_registry",
    )
    for path in sorted((PACKAGES / CORE / DOCUMENTS).glob("*.py"))
}
for test in (
    f"tests/{folder}"
    for folder in ("documents/test_documents.py", "extras/documents/test_yaml_documents.py")
):
    twin = f"lite-registry/{test}"
    TWINS[f"microservice-core/{test}"] = twin, r"\bmicroservice_core\b", "lite_registry._documents"
HEADER = "# Copied from packages/{original} by scripts/copy_shared.py: change it there.\n"


def expected_copies() -> dict[Path, str]:
    """The text that each copy must have."""
    copies = {
        path_of(original, target): HEADER.format(original=original)
        + (PACKAGES / original).read_text()
        for original, targets in COPIES.items()
        for target in targets
    }
    for original, (twin, pattern, replacement) in TWINS.items():
        text = re.sub(pattern, replacement, (PACKAGES / original).read_text())
        copies[PACKAGES / twin] = HEADER.format(original=original) + text
    return copies


def path_of(original: str, target: str) -> Path:
    """Where a copy goes: the target is a folder, or a file where its name differs."""
    path = PACKAGES / target
    return path if path.suffix == ".py" else path / Path(original).name


def main(arguments: list[str]) -> int:
    """Write the copies that differ, or with `--check` name them."""
    stale = {
        path: text
        for path, text in expected_copies().items()
        if not path.exists() or path.read_text() != text
    }
    if "--check" in arguments:
        for path in stale:
            print(f"{path.relative_to(PACKAGES)} differs: run python scripts/copy_shared.py")
        return 1 if stale else 0
    for path, text in stale.items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
