"""Readers of face data sets, and the arrays they are decoded to."""

from facegen.training.data.arrays import FaceArrays
from facegen.training.data.dataset import Dataset, Picture
from facegen.training.data.faces import load_faces
from facegen.training.data.labels import Labels, label_slug, load_labels
from facegen.training.data.readers import read_dataset

__all__ = [
    "Dataset",
    "FaceArrays",
    "Labels",
    "Picture",
    "label_slug",
    "load_faces",
    "load_labels",
    "read_dataset",
]
