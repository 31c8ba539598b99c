import runpy
from pathlib import Path

if __name__ == "__main__":
    launcher = Path(__file__).resolve().parents[2] / "tools" / "train_net.py"
    runpy.run_path(str(launcher), run_name="__main__")
