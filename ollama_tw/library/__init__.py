"""Model store on disk, in Ollama's format: names, digests, blobs, manifests, creation, Modelfiles.

Blocking code without Twisted, called on the disk pool.
"""
