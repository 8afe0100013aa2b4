"""Every configuration document that the documentation prints is one that the programs accept."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from microservice_client import parse_policies
from microservice_governance import Registry

ROOT = Path(__file__).resolve().parent.parent.parent
BLOCK = re.compile(r"^```ya?ml\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
# What is no configuration of ours, by a key that it begins with: a pod, an Istio VirtualService.
FOREIGN = {"terminationGracePeriodSeconds", "apiVersion", "http"}
SECTIONS: Mapping[str, Callable[[Mapping[str, object]], object]] = {
    "calls": parse_policies,
    "governance": Registry().update,
}


def pages() -> Iterator[Path]:
    yield from ROOT.glob("README*.md")
    yield from ROOT.glob("docs/**/*.md")
    yield from ROOT.glob("packages/*/README.md")
    yield from ROOT.glob("examples/**/*.md")


def documents() -> Iterator[tuple[str, str]]:
    for page in pages():
        if "_build" not in page.parts:
            for number, match in enumerate(BLOCK.finditer(page.read_text(encoding="utf-8"))):
                yield f"{page.relative_to(ROOT)} #{number + 1}", match["text"]
    for file in ROOT.glob("examples/**/config/*.yaml"):
        yield str(file.relative_to(ROOT)), file.read_text(encoding="utf-8")


DOCUMENTS = dict(documents())


@pytest.mark.parametrize("place", DOCUMENTS)
def test_a_printed_document_is_accepted(place: str) -> None:
    document = yaml.safe_load(DOCUMENTS[place])
    if FOREIGN.isdisjoint(document):
        for key in SECTIONS.keys() & document.keys():
            SECTIONS[key](document[key])


def test_the_documents_with_policies_are_among_them() -> None:
    assert any("calls:" in text for text in DOCUMENTS.values())
