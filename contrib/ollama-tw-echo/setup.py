from setuptools import setup

setup(
    name="ollama-tw-echo",
    version="1.0.0",
    description="A backend for ollama_tw that repeats what it is told: an example to learn from",
    license="MIT",
    python_requires=">=3.11",
    # ollama_tw.plugins belongs to ollama_tw: one module of ours goes into it, and no __init__.py.
    packages=["ollama_tw_echo", "ollama_tw.plugins"],
    install_requires=["ollama-tw>=0.5"],
    extras_require={"test": ["pytest>=8"]},
    zip_safe=False,
)
