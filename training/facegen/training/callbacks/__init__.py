"""What happens around training: averages, pictures, history, guards."""

from facegen.training.callbacks.averaging import MovingAverage
from facegen.training.callbacks.finite import FiniteGuard
from facegen.training.callbacks.history import History, draw_curves
from facegen.training.callbacks.mesh_sheets import MeshSheets
from facegen.training.callbacks.pictures import Pictures
from facegen.training.callbacks.rates import LearningRate
from facegen.training.callbacks.record import Record, run_facts, write_json
from facegen.training.callbacks.transfers import Transfers

__all__ = [
    "FiniteGuard",
    "History",
    "LearningRate",
    "MeshSheets",
    "MovingAverage",
    "Pictures",
    "Record",
    "Transfers",
    "draw_curves",
    "run_facts",
    "write_json",
]
