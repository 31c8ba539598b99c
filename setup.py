"""Packaging: detrex with its configs, and the projects as a namespace package."""

from pathlib import Path

from setuptools import find_namespace_packages, setup

ROOT = Path(__file__).parent
PACKAGES = ("detrex", "projects", "aligndetr")


def packages() -> list[str]:
    """The configs folder travels as detrex/config/configs, where get_config looks for it."""
    found = find_namespace_packages(include=[f"{p}{deep}" for p in PACKAGES for deep in ("", ".*")])
    configs = find_namespace_packages(where="configs")
    return found + ["detrex.config.configs"] + [f"detrex.config.configs.{c}" for c in configs]


setup(
    name="detrex",
    version="1.0.0.dev0",
    description="Detection transformers whose scores rank well: Rank-DETR and its family",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=packages(),
    package_dir={"detrex.config.configs": "configs"},
    package_data={
        "": ["*.c"],
        "detrex.ablation": ["presets/*.yaml"],
        "detrex.checkpoint": ["zoo.yaml"],
        "detrex.report": ["page.*", "*.js"],
    },
    install_requires=(ROOT / "requirements" / "base.txt").read_text(encoding="utf-8").split("\n"),
    extras_require={
        "demo": (ROOT / "requirements" / "demo.txt").read_text(encoding="utf-8").split("\n"),
        "docs": (ROOT / "requirements" / "docs.txt").read_text(encoding="utf-8").split("\n"),
        "export": (ROOT / "requirements" / "export.txt").read_text(encoding="utf-8").split("\n"),
        "test": (ROOT / "requirements" / "test.txt").read_text(encoding="utf-8").split("\n"),
        "report": (ROOT / "requirements" / "report.txt").read_text(encoding="utf-8").split("\n"),
        "video": ["av"],
        "demo-web": ["gradio"],
        "forks": ["einops", "fairscale", "opencv-python-headless", "wandb"],
        "slurm": ["submitit"],
        "wandb": ["wandb"],
        "mlflow": ["mlflow"],
        "clearml": ["clearml"],
        "heic": ["pillow-heif"],
    },
)
