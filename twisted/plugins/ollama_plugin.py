"""Registers ``twistd ollama``."""

from twisted.application.service import ServiceMaker

ollama = ServiceMaker("ollama_tw", "ollama_tw.tap", "The Ollama server.", "ollama")
