"""Packaging of ollama-tw-ray."""

from setuptools import setup

setup(
    name="ollama-tw-ray",
    version="1.0.0",
    description="Models of ollama_tw as applications of Ray Serve on a cluster",
    license="MIT",
    python_requires=">=3.11",
    # ollama_tw.plugins is a namespace package of ollama_tw: this adds one module and no __init__.py.
    packages=["ollama_tw_ray", "ollama_tw.plugins"],
    install_requires=["ollama-tw>=0.5", "ray[serve]>=2.60"],
    extras_require={"test": ["pytest>=8"]},
    zip_safe=False,
)
