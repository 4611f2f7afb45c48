"""Run the notebooks in ``docs/notebooks``, and save them with small outputs; also as pages.

    python -m docs.generate.notebooks            # runs and saves all
    python -m docs.generate.notebooks adain      # or some
"""
from __future__ import annotations

import base64
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import nbformat
from PIL import Image

from adaptis.errors import AdaptisError
from adaptis.files import atomic_write

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / 'docs' / 'notebooks'
METADATA = {'kernelspec': {'display_name': 'Python 3', 'language': 'python', 'name': 'python3'},
            'language_info': {'name': 'python'}}
TIMEOUT = 280   # seconds for a cell, on a busy machine
COLORS = 256    # of a picture: a palette halves its size


def names() -> list[str]:
    """The names of the notebooks."""
    return sorted(path.stem for path in FOLDER.glob('*.ipynb'))


def read(name: str) -> Any:
    """A notebook as it is committed; AdaptisError if there is none of that name."""
    if name not in names():
        raise AdaptisError(f'There is no notebook {name}; there are {", ".join(names())}.')
    return nbformat.read(FOLDER / f'{name}.ipynb', as_version=4)


def execute(name: str) -> Any:
    """Run a notebook in a process of its own, and return it with its outputs.

    Raises AdaptisError if a cell fails.
    """
    # The site shows notebooks without running them.
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError
    notebook = read(name)
    client = NotebookClient(notebook, timeout=TIMEOUT, startup_timeout=TIMEOUT,
                            kernel_name=METADATA['kernelspec']['name'], coalesce_streams=True,
                            resources={'metadata': {'path': str(FOLDER)}})
    try:
        client.execute(env={**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'})
    except CellExecutionError as error:
        raise AdaptisError(
            f'A cell of {name}.ipynb fails: {error.ename}: {error.evalue}') from error
    return notebook


def compact(notebook: Any) -> Any:
    """Remove what differs from run to run, and make pictures small; changes the notebook."""
    notebook.metadata = nbformat.from_dict(METADATA)
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f'cell-{number}', {}
        for output in cell.get('outputs', ()):
            data = output.get('data', {})
            if len(data) > 1:
                data.pop('text/plain', None)   # it would hold an address in memory
            if 'image/png' in data:
                output.data = nbformat.from_dict({'image/png': _small(data['image/png'])})
    return notebook


def page(name: str) -> tuple[str, dict[str, bytes]]:
    """A committed notebook as a page in Markdown, and its pictures by their paths from there."""
    from nbconvert import MarkdownExporter  # only the site needs it
    notebook = read(name)
    title = notebook.cells[0].source.partition('\n')[0].lstrip('# ')
    text, resources = MarkdownExporter().from_notebook_node(
        notebook, {'unique_key': 'picture', 'output_files_dir': f'{name}_files'})
    text = text.replace('![png]', f'![{title}, a picture of the notebook]').strip()
    wide = '---\nhide: [toc]\n---\n'   # for code and tables
    return f'{wide}{text}\n\n[Download this notebook]({name}.ipynb)\n', resources['outputs']


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run and save notebooks; 1 and a sentence if one cannot be run."""
    try:
        for name in arguments or names():
            notebook = compact(execute(name))
            with atomic_write(FOLDER / f'{name}.ipynb') as temporary:
                nbformat.write(notebook, temporary)
            print(f'Ran docs/notebooks/{name}.ipynb.')
    except AdaptisError as error:
        print(f'notebooks: {error}', file=sys.stderr)
        return 1
    return 0


def _small(picture: str) -> str:
    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert('RGB')
    stream = io.BytesIO()
    image.quantize(COLORS, dither=Image.Dither.NONE).save(stream, 'PNG', optimize=True)
    return base64.b64encode(stream.getvalue()).decode()


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
