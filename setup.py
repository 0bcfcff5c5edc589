"""Packaging of ollama_tw; the settings of the tools stand in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
INIT = (HERE / "ollama_tw/__init__.py").read_text("utf-8")
VERSION = re.search(r'^__version__ = "([^"]+)"', INIT, re.M).group(1)

TEST = [
    "anthropic>=0.77",
    "axe-playwright-python>=0.1.8",
    "openai>=1.100",
    "gguf>=0.18",
    "hypothesis>=6.131",
    "jsonschema>=4.21",
    "langchain-ollama>=0.3.4",
    "ollama>=0.6.2",
    "openapi-spec-validator>=0.7.1",
    "playwright>=1.65",
    "pyte>=0.8.2",
    "pytest>=8.4",
    "pytest-cov>=6",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.6",
    "pyyaml>=6.0",
    "requests>=2.32",
    "schemathesis>=4.32",
    # The tests build the package's own wheel, without the network.
    "setuptools>=77",
    "treq>=24.9",
    "websockets>=14",
]
# MkDocs 2 supports neither themes nor plugins of MkDocs 1.
DOCS = ["mkdocs>=1.6,<2", "mkdocs-material>=9.7,<10", "mkdocstrings[python]>=1.0", "ruff>=0.6"]

setup(
    name="ollama-tw",
    version=VERSION,
    description="An Ollama server on Twisted: continuous batching, shared prefixes, backends as plugins",
    long_description=(HERE / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    author="ollama_tw contributors",
    keywords=["anthropic", "gguf", "inference", "llama.cpp", "llm", "ollama", "openai", "server", "twisted"],
    license_expression="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    # twisted.plugins is a namespace that Twisted owns: only our one module goes into it.
    packages=[*find_packages(include=["ollama_tw", "ollama_tw.*"]), "twisted.plugins"],
    package_data={"ollama_tw": ["py.typed"], "ollama_tw.http.ui": ["static/*"]},
    install_requires=[
        "autobahn>=26.10.1",
        "click>=8.1",
        "cryptography>=50",
        "jinja2>=3.1.5",
        "klein>=24.8",
        "llama-cpp-python>=0.3.36",
        "markdown-it-py>=3",
        "msgspec>=0.19",
        "numpy>=1.26",
        "orjson>=3.10",
        "pillow>=11",
        "prometheus-client>=0.20",
        "prompt-toolkit>=3.0.48",
        "psutil>=6.0",
        "pyopenssl>=26.4",
        "rich>=15",
        "service-identity>=24.2",
        "twisted[tls]>=26.4",
        "wcwidth>=0.2.13",
        "werkzeug>=3.0.2",
        "zope.interface>=6.4",
        "zstandard>=0.22",
    ],
    extras_require={
        "client": ["websockets>=13"],
        "test": TEST,
        "dev": [
            *TEST,
            "build>=1.2",
            "check-wheel-contents>=0.6",
            "import-linter>=2.1",
            "mypy>=1.11",
            "mypy-zope>=1.0.8",
            "pre-commit>=4",
            "ruff>=0.6",
            "twine>=6.1",
        ],
        "docs": DOCS,
    },
    entry_points={"console_scripts": ["ollama = ollama_tw.cli.main:main"]},
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Environment :: No Input/Output (Daemon)",
        "Framework :: Twisted",
        "Intended Audience :: Developers",
        "Intended Audience :: System Administrators",
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Programming Language :: Python :: Implementation :: CPython",
        "Topic :: Internet :: WWW/HTTP :: HTTP Servers",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    # The other modes of `pip install -e` do not show twisted/plugins/ to Twisted.
    options={"editable_wheel": {"mode": "compat"}},
    zip_safe=False,
)
