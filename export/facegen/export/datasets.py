"""What is known of the data sets that families are trained on: names, sources, terms, limits."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

__all__ = ["DatasetTerms", "dataset_terms"]


@dataclass(frozen=True, slots=True)
class DatasetTerms:
    """A data set's terms.

    Attributes:
        title: Its full name.
        url: Where it comes from; empty if not known.
        terms: What it may be used for, one sentence.
        limits: What its choice of pictures does to a model.
        framing: How its pictures lie in their frame.
    """

    title: str
    url: str
    terms: str
    limits: str
    framing: str


_TERMS: Mapping[str, DatasetTerms] = {
    "celeba": DatasetTerms(
        title="CelebFaces Attributes (CelebA)",
        url="https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
        terms="Non-commercial research only; the pictures may not be redistributed.",
        limits=(
            "Celebrities on public occasions: mostly young, smiling, made up, lit from the front, "
            "light-skinned; older people, children, dark skin, profiles, beards, hats and glasses "
            "are rare and come out worse."
        ),
        framing="aligned pictures, eyes at a fixed place",
    ),
    "lfw": DatasetTerms(
        title="Labeled Faces in the Wild (LFW)",
        url="http://vis-www.cs.umass.edu/lfw/",
        terms="Research; press photographs from the web, whose rights lie with their owners.",
        limits=(
            "People in the news around 2003: about three quarters men, mostly adults and "
            "light-skinned; its makers warn that it says nothing of how well a method works on "
            "everybody."
        ),
        framing="pictures centred on a detected face",
    ),
    "fer": DatasetTerms(
        title="Facial Expression Recognition (FER2013), labels of FER+",
        url="https://github.com/microsoft/FERPlus",
        terms="Research; pictures from a web search, whose rights lie with their owners.",
        limits="Small grey pictures (48 x 48), posed expressions, some drawings among them.",
        framing="grey pictures centred on the face",
    ),
    "ict": DatasetTerms(
        title="Combinations of ICT-FaceKit (Li et al. 2020)",
        url="https://github.com/USC-ICT/ICT-FaceKit",
        terms="MIT licence of ICT-FaceKit, copyright USC Institute for Creative Technologies.",
        limits=(
            "Made up from one linear model of scanned people, by weights drawn from a seed: no "
            "mesh is a scan, no sequence was recorded. Real faces and real motion differ in more "
            "ways."
        ),
        framing="the model's own frame: x to the right, y up, z to the viewer",
    ),
    "coma": DatasetTerms(
        title="CoMA (Ranjan et al. 2018)",
        url="https://coma.is.tue.mpg.de/",
        terms="Non-commercial scientific research only; the meshes may not be redistributed.",
        limits="Twelve people with twelve extreme expressions each, registered to one template.",
        framing="as registered",
    ),
    "meshes": DatasetTerms(
        title="A folder of meshes",
        url="",
        terms="Those of the meshes; ask whoever trained the model.",
        limits="Those of the meshes.",
        framing="as the meshes lie",
    ),
}

_FOLDER = DatasetTerms(
    title="a folder of pictures",
    url="",
    terms="Those of the pictures; ask whoever trained the model.",
    limits="Those of the pictures.",
    framing="as the pictures lie",
)


_ALIGNED = "-aligned"
_ALIGNED_FRAMING = "faces found by dlib, and turned, scaled and moved into one place by five points"


def dataset_terms(reader: str) -> DatasetTerms:
    """The terms of a data set by its reader's name; those of a folder for any other."""
    terms = _TERMS.get(reader.removesuffix(_ALIGNED), _FOLDER)
    return replace(terms, framing=_ALIGNED_FRAMING) if reader.endswith(_ALIGNED) else terms
