"""The recipe of a mesh autoencoder: every key, its default and what it means."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["CombinationConfig", "MeshDataConfig", "MeshLossConfig"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class CombinationConfig(_Frozen):
    """How many faces are combined from a face model, and how."""

    mesh_count: int = Field(default=12000, ge=2)
    """Training meshes: an identity, an expression and a strength each."""
    test_mesh_count: int = Field(default=1000, ge=2)
    """Meshes of the validation split, and of each test split."""
    identity_count: int = Field(default=1000, ge=1)
    """Identities of the training meshes."""
    identity_modes: int = Field(default=5, ge=1)
    """The face model's modes that identities differ in, from the largest on. They are independent:
    a latent of fewer values than modes and controls cannot hold what is drawn."""
    expression_count: int = Field(default=400, ge=1)
    """Expressions of the training meshes."""
    expression_controls: int = Field(default=3, ge=1)
    """Dimensions of the space in which an expression is a direction."""
    unit_threshold: float = Field(default=0.4, ge=0, lt=1)
    """The cosine of expression and preferred direction from which a unit moves: higher is fewer."""
    test_share: float = Field(default=0.2, gt=0)
    """Identities and expressions of validation, and of tests, for each of the training."""


class MeshDataConfig(_Frozen):
    """Which meshes."""

    reader: Literal["ict", "coma", "meshes"] = "ict"
    """ict: faces combined from ICT-FaceKit; coma: identity/expression/frame; meshes: any folder."""
    root: str = "data"
    """The folder that holds the data set, or the data set itself."""
    vertex_count: int = Field(default=5000, ge=0)
    """Vertices to simplify larger meshes to; 0 keeps all."""
    unit_mm: float = Field(default=1.0, gt=0)
    """Millimetres in one unit of the files; COMA's are metres. ICT-FaceKit's are known."""
    noise_mm: float = Field(default=1.0, ge=0)
    """Deviation of normal noise on every coordinate that the encoder sees in training, not on what
    is to come back: without it a mesh 0.3 mm off gets a latent of another face."""
    split: Literal["interpolation", "expression", "identity"] = "interpolation"
    """Of COMA's layout what is tested: frames between others, held-out expressions or people."""
    held_out: tuple[str, ...] = ()
    """The expressions or identities that are held out, by the names of their folders."""
    combinations: CombinationConfig = CombinationConfig()
    """What is drawn from ICT-FaceKit."""


class MeshLossConfig(_Frozen):
    """The terms of the objective and their weights."""

    reconstruction: Literal["vertex", "l1"] = "vertex"
    """vertex: mean distance of vertices, which is measured; l1: of coordinates, as COMA."""
    beta: float = Field(default=1.0, ge=0)
    """Of a VAE: weight of the KL beside the likelihood, whose scale is learned; 1 is the bound."""
