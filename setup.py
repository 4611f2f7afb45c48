"""Package metadata.  `requirements.txt` pins these requirements; MXNet is an extra."""
import re
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
README = ROOT / 'README.md'

# mxnet-cu112 does not include the CUDA libraries.  These wheels contain those that it links to, so
# that a machine needs only NVIDIA's driver; `adaptis.runtime` loads them before MXNet.
CUDA = [
    'nvidia-cuda-runtime-cu11==11.8.89',   # libcudart.so.11.0
    'nvidia-cuda-nvrtc-cu11==11.8.89',     # libnvrtc.so.11.2
    'nvidia-nvtx-cu11==11.8.86',           # libnvToolsExt.so.1
    'nvidia-cublas-cu11==11.11.3.6',       # libcublas.so.11
    'nvidia-cufft-cu11==10.9.0.58',        # libcufft.so.10
    'nvidia-curand-cu11==10.3.0.86',       # libcurand.so.10
    'nvidia-cusolver-cu11==11.4.1.48',     # libcusolver.so.11
    'nvidia-cudnn-cu11==8.9.6.50',         # libcudnn.so.8; 9.x is libcudnn.so.9
    'nvidia-nccl-cu11==2.21.5',            # libnccl.so.2
]

# `adaptis export` writes ONNX models with the first package, and the second runs them; apart from
# it, running them needs only NumPy and OpenCV (on NVIDIA GPUs: onnxruntime-gpu).  Newer versions of
# onnx need a newer protobuf than the pinned one, with which MXNet would not load.
ONNX = ['onnx>=1.15,<1.19', 'onnxruntime>=1.17']

# Decodes PNGs in half the time; optional.
FAST = ['pyspng>=0.1.4']

# `adaptis serve` is an ASGI application (Starlette, which only needs AnyIO) behind uvicorn.
# These are the first versions with all that it uses; pip installs the newest for its Python.
SERVE = ['starlette>=0.40', 'uvicorn>=0.30', 'Pillow>=9']

# Its tests: Starlette's test client needs an HTTP client; Selenium drives Debian's chromium.
SERVE_TESTS = [*SERVE, 'httpx2>=2 ; python_version >= "3.11"',
               'httpx>=0.27 ; python_version < "3.11"', 'selenium>=4.20']

# For running the notebooks in docs/notebooks, which draw with Matplotlib.
NOTEBOOKS = ['matplotlib>=3.7', 'nbclient>=0.10', 'nbformat>=5.9', 'ipykernel>=6.20']

# For `make docs`.  Many readers of Python documentation know the Material theme; mkdocstrings
# reads the source without importing it.
DOCS = ['mkdocs>=1.6,<2', 'mkdocs-material>=9.5', 'mkdocstrings[python]>=0.26',
        'mkdocs-gen-files>=0.5', 'nbconvert>=7', *NOTEBOOKS]

# Other projects use the names `toy_data` and `experiments` as well, so a wheel does not install
# such packages.  It contains what the commands need of them inside `adaptis`; the programs in
# `experiments` run from the source tree.
CARRIED = {'toy_data': ('_toy_data', ['*.py']),
           'experiments': ('_experiments', ['**/*.yaml', 'results/*.json'])}


class BuildPy(build_py):
    """Also copies ``CARRIED``, unless the source tree itself is installed (``pip -e``)."""

    def run(self):
        super().run()
        if not self.editable_mode:
            for source, target in self._carried():
                self.mkpath(str(target.parent))
                self.copy_file(str(source), str(target))

    def get_source_files(self):
        """Return the files of a source distribution."""
        return [*super().get_source_files(),
                *(str(source.relative_to(ROOT)) for source, _ in self._carried())]

    def _carried(self):
        for folder, (inside, patterns) in CARRIED.items():
            for pattern in patterns:
                for source in sorted((ROOT / folder).glob(pattern)):
                    yield source, (Path(self.build_lib) / 'adaptis' / inside
                                   / source.relative_to(ROOT / folder))


setup(
    name='adaptis',
    version=re.search(r"__version__ = '(.+)'", (ROOT / 'adaptis/__init__.py').read_text())[1],
    description='AdaptIS, adaptive instance selection for panoptic segmentation, in MXNet Gluon',
    long_description=README.read_text(encoding='utf-8') if README.exists() else '',
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    license_files=['LICENSE'],
    packages=find_packages(include=[
        f'{name}{below}' for below in ('', '.*') for name in ('adaptis', 'panoptic_baselines')]),
    package_dir={'': '.'},   # so that an editable install also finds toy_data and experiments
    package_data={'adaptis': ['README.md', 'pretrained/*.params', 'pretrained/*.json',
                              'pretrained/*.yaml', 'serve/static/*',
                              'serve/web/*.js', 'serve/web/ort/*'],
                  'panoptic_baselines': ['*/README.md']},
    cmdclass={'build_py': BuildPy},
    python_requires='>=3.9',
    install_requires=[
        'numpy>=1.23,<2 ; python_version < "3.13"',
        'numpy>=2.1,<2.2 ; python_version >= "3.13"',
        'setuptools<81 ; python_version >= "3.12"',   # distutils, which MXNet imports
        'opencv-python-headless>=4.5,<4.12',
        'albumentations==1.3.1',
        'pycocotools>=2.0.6',
        'PyYAML>=5.4',
        'safetensors>=0.4',
        'shtab>=1.6',   # completion in shells
        'tqdm>=4.60',
        'tensorboardX>=2.5',
        # GluonCV imports these; it is installed without its dependencies (see the Makefile).
        'Pillow>=9',
        'portalocker>=2',
        'requests>=2.20,<3',
        'scipy>=1.7',
    ],
    extras_require={
        'cpu': ['mxnet==1.9.1 ; python_version < "3.13"'],
        'cu112': ['mxnet-cu112==1.9.1 ; python_version < "3.13"', *CUDA],
        'panopticapi': ['panopticapi @ git+https://github.com/cocodataset/panopticapi.git'],
        'onnx': ONNX,
        'serve': SERVE,
        'ray': ['ray>=2.10'],   # `adaptis evaluate --ray`; 2.10 is the first for Python 3.12
        'fast': FAST,
        'docs': DOCS,
        'dev': ['pytest==8.4.2', 'pytest-timeout==2.4.0', 'pytest-xdist==3.8.0', 'ruff==0.17.5',
                *ONNX, *FAST, *SERVE_TESTS, *NOTEBOOKS],
    },
    entry_points={'console_scripts': ['adaptis = adaptis.cli:main']},
    classifiers=[
        'License :: OSI Approved :: Apache Software License',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3',
        'Topic :: Scientific/Engineering :: Image Recognition',
    ],
)
