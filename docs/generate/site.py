"""Pages of the site that are not files in ``docs``; mkdocs-gen-files runs this."""
from __future__ import annotations

import re
from pathlib import Path

import mkdocs_gen_files

from docs.generate import model_zoo, notebooks, reference

ROOT = Path(__file__).resolve().parents[2]
SYSTEMS = {'adaptis': 'adaptis', **{name: f'panoptic_baselines/{name}' for name in (
    'panoptic_fpn', 'condinst', 'dense_detections', 'unified')}}
# Where a link of a page at the top of the repository leads on the site.
PLACES = {**{f'{folder}/README.md': f'systems/{name}.md' for name, folder in SYSTEMS.items()},
          'CONTRIBUTING.md': 'contributing.md', 'CHANGELOG.md': 'changelog.md',
          'docs/notebooks': 'notebooks/toy_v1.md'}
LINK = re.compile(r'(?<!!)\[([^]]+)\]\(([^)#\s:]+)(#[^)]*)?\)')


def top_level(text: str) -> str:
    """A page of the repository's top level as a page of the site.

    Links to files that the site does not have become plain text.
    """
    def link(found: re.Match[str]) -> str:
        title, target, anchor = found.groups()
        target = PLACES.get(target, target)
        if target.startswith('docs/') or target in PLACES.values():
            return f'[{title}]({target.removeprefix("docs/")}{anchor or ""})'
        return title
    return LINK.sub(link, text).replace('](docs/', '](')


def write(path: str, text: str) -> None:
    """Add a page to the site."""
    with mkdocs_gen_files.open(path, 'w') as file:
        file.write(text)


def write_notebook(name: str) -> None:
    """Add a notebook to the site as it is committed, with its outputs."""
    text, pictures = notebooks.page(name)
    write(f'notebooks/{name}.md', text)
    for path, content in pictures.items():
        with mkdocs_gen_files.open(f'notebooks/{path}', 'wb') as file:
            file.write(content)


def main() -> None:
    """Add all pages."""
    for source, target in (('README.md', 'index.md'), ('CONTRIBUTING.md', 'contributing.md'),
                           ('CHANGELOG.md', 'changelog.md')):
        write(target, top_level((ROOT / source).read_text(encoding='utf-8')))
    for name, folder in SYSTEMS.items():
        write(f'systems/{name}.md', (ROOT / folder / 'README.md').read_text(encoding='utf-8'))
    for name in notebooks.names():
        write_notebook(name)
    write('model_zoo.md', model_zoo.page())
    write('reference/commands.md', reference.commands_page())
    write('reference/config.md', reference.config_page())
    write('reference/settings.md', reference.settings_page())
    write('reference/api.md', reference.api_page())


main()
