"""The model store on disk: names, digests, blobs, manifests, GGUF headers.

Blocking code without Twisted, run in the disk pool.
"""
