"""Readers of face data sets, and the arrays they are decoded to."""

from facegen.training.data.arrays import FaceArrays, load_faces
from facegen.training.data.dataset import Dataset, Picture
from facegen.training.data.readers import read_dataset

__all__ = ["Dataset", "FaceArrays", "Picture", "load_faces", "read_dataset"]
