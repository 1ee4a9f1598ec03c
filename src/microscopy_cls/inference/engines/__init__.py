"""What computes the answers: torch, OpenVINO or ONNX Runtime, behind one small interface."""

from microscopy_cls.inference.engines.choice import ENGINES, PRECISIONS, choose_engine, open_engine
from microscopy_cls.inference.engines.engine import Engine, Outputs

__all__ = ["ENGINES", "PRECISIONS", "Engine", "Outputs", "choose_engine", "open_engine"]
