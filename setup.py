"""Package metadata.  `requirements.txt` pins what this asks for; MXNet comes by an extra."""
import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
README = ROOT / 'README.md'

# mxnet-cu112 brings no CUDA libraries.  These wheels hold what it links to, so that a machine
# needs only NVIDIA's driver; `adaptis.runtime` loads them before MXNet.
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

# `adaptis export` writes ONNX models with the first; the second runs them, where nothing else of
# this project's requirements but NumPy and OpenCV needs to be (onnxruntime-gpu: on NVIDIA GPUs).
# Newer onnx needs a newer protobuf than the pinned one; MXNet, which imports both, would not load.
ONNX = ['onnx>=1.15,<1.19', 'onnxruntime>=1.17']

setup(
    name='adaptis',
    version=re.search(r"__version__ = '(.+)'", (ROOT / 'adaptis/__init__.py').read_text())[1],
    description='AdaptIS, adaptive instance selection for panoptic segmentation, in MXNet Gluon',
    long_description=README.read_text(encoding='utf-8') if README.exists() else '',
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    license_files=['LICENSE'],
    packages=find_packages(include=[
        f'{name}{below}' for below in ('', '.*')
        for name in ('adaptis', 'panoptic_baselines', 'experiments', 'toy_data')]),
    package_data={
        'adaptis': ['pretrained/*.params', 'pretrained/*.json', 'pretrained/*.yaml'],
        'panoptic_baselines': ['*/README.md'],
        'experiments': ['*.yaml', '*/*.yaml', '*/*.html', 'results/*.json'],
    },
    python_requires='>=3.9',
    install_requires=[
        'numpy>=1.23,<2 ; python_version < "3.13"',
        'numpy>=2.1,<2.2 ; python_version >= "3.13"',
        'setuptools<81 ; python_version >= "3.12"',   # distutils, which MXNet imports
        'opencv-python-headless>=4.5,<4.12',
        'albumentations==1.3.1',
        'pycocotools>=2.0.6',
        'PyYAML>=5.4',
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
        'dev': ['pytest==8.4.2', 'pytest-timeout==2.4.0', 'ruff==0.17.5', *ONNX],
    },
    entry_points={'console_scripts': ['adaptis = adaptis.cli:main']},
    classifiers=[
        'License :: OSI Approved :: Apache Software License',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3',
        'Topic :: Scientific/Engineering :: Image Recognition',
    ],
)
