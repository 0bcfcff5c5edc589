"""Packaging of ollama-tw-echo."""

from setuptools import setup

setup(
    name="ollama-tw-echo",
    version="1.0.0",
    description="Example backend for ollama_tw, which repeats the prompt",
    license="MIT",
    python_requires=">=3.11",
    # ollama_tw.plugins is a namespace package of ollama_tw: this adds one module and no __init__.py.
    packages=["ollama_tw_echo", "ollama_tw.plugins"],
    install_requires=["ollama-tw>=0.5"],
    extras_require={"test": ["pytest>=8"]},
    zip_safe=False,
)
