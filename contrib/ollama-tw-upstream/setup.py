"""Packaging of ollama-tw-upstream."""

from setuptools import setup

setup(
    name="ollama-tw-upstream",
    version="2.0.0",
    description="Models of other servers, several of them as one, served by ollama_tw",
    license="MIT",
    python_requires=">=3.11",
    # ollama_tw.plugins is a namespace package of ollama_tw: this adds one module and no __init__.py.
    packages=["ollama_tw_upstream", "ollama_tw.plugins"],
    install_requires=["ollama-tw>=0.5"],
    extras_require={"test": ["pytest>=8"]},
    zip_safe=False,
)
