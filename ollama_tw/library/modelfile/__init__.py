"""Modelfiles: parsing, writing, and conversion to create requests.

``parser`` parses text to instructions and ``writer`` formats instructions as text; ``values`` quotes
and unquotes values. ``recipe`` interprets instructions, with ``parameters`` for the types of
parameters, and ``local`` finds the files of a recipe on disk. ``description`` formats the Modelfile
of an installed model for ``/api/show``. Only ``local`` does I/O.

Source: ollama: parser/parser.go; server/images.go, Model.String; docs/modelfile.mdx.
"""
