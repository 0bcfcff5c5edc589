"""Modelfiles, from text to the request that creates a model, and back.

``parser`` reads text into commands and ``writer`` writes commands as text; ``values`` knows how one
value is quoted. ``recipe`` gives commands their meaning, with ``parameters`` for the types of
parameters, and ``local`` looks on the disk for the files that a recipe names. ``description`` is the
Modelfile of an installed model, as ``/api/show`` tells it. Only ``local`` does any I/O.

Source: ``spec/models-and-cli.md`` sections 5.2 and 6.
"""
