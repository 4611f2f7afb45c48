"""Small checkpoint files, made without the programs that usually write them."""
from __future__ import annotations

import base64
import io
import pickle
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any

# What torch.save 2.13 writes, in today's format and in that of 1.5, for {'iteration': 3, 'model':
# OrderedDict(w=arange(6.).reshape(2, 3).t(), half=arange(3, 6) in half precision, n=7,
# p=Parameter([[0, 1, 2]]))}; compressed.
TORCH_ZIP = zlib.decompress(base64.b85decode(
    'c-o~^%}>){7=O32ZmWm`R5nG#FC2)Y`-09$APX)gHF3_6OfO5>%G%hid%AZJNlZu#C^zw7;>Gx1c=GJo#CY<g2jWGq'
    '9(~_-EN#b!;G4Z|wmrX(XZt;G^CHuOP#}Q1)&L5jW=+zx(wf?ssz_LhHJ)g>Y%h9jTkGCufTBeo0o3%0tbwOo)-_Eo'
    'V^yy=x%);%Hss2JTE-lB#|ywjiyl(D3O!}48)YR{YGGAtawS7vYN=YKgyniuH%coB4t&vQ(NBt-q*AKNz*-P4r|A-Y'
    'Xnn|m-z4NAP-Mux+-N~iWHE3LL?kkzcN0#C9+BCE-Ytb1IEkUJ0H=ziYotipGK3VOqwI3uB_DOD`%UUN3@Aa7!7yl2'
    'Zop~LvjJx;y0aLD3J^96>kx5p-P7yU4%a!eBmw6Mmj}Zz;Tj*eI4)oqDZoXupaG-%{4fp4kZLlP4Gu0@GKyabC}y*l'
    'sWY?7E2L-7CS0|cuVEM~!1b5ro9GK5*NIj!NOV*}B+>r}Ziq}PmKXhjw~N2}J`oRe=l6|81SM>-h%M_zO~R!W*=Q27'
    'TsG!N$KfkZl|TIc_MA3P_x{SmC~a46r=lcjYPDXI>o}K<A5omF=@d0Ew+cVKM8bQZfk8BDGqCg&%Q}sBE}J>J?(Wi5'
    'j5V2h*qHqhVTlTRpob8;?V8FdK9?1aZNOq(pCgxf@*;bk?DzB3(a@`%?J)Twe2Ak7x1)G2JNA!`P!=tqJ5+7!)|c<c'
    '>Ob*6{rlUz)IsCxj!q>52Ri6S8JmMn@YBb$kmRWH=Xce`!}B+ac>4gD%{OI3B@?h_&T>hu<g$}TGQta~OiB=h)J$eN'
    '&8LK!WSZwQJkO^xLM9RC1wNik&Lor6<;VD+VwCuZnl3%mY{#el@EGWF-u)bL<LyU4#DN|1qWupXH;sLehaEKAPMWUM'
    '!_8zL$3f?VkwJSM18xHQ^n@G)Zy3}y!)~;F8l328PZv7wM%$C@((Xnl+-Q3m`yJ@84|QkX4Y$W+)B%6(fbSjPyvVYX'
    '?fMbsW(ON|-5+_ayTI-aFl)~8cH4#ZEb*}xCTP}MwSNJgB?Ol'))
TORCH_LEGACY = zlib.decompress(base64.b85decode(
    'c-nQ5%Wl&^6o!3ELIw)uPPvx511Pf6q_it4R4Sz5YBt^=%h*G0<l6r2aS=$BvS}zh0}GbC8jpa)f@8a>Xe36SvCi@F'
    '_n-OCSo_A}Ki@ZgFMjy>YN0>Yp8wM6+<{^`^NONmc`8#sjoodL7g3r(r2=P;zQmD~v2aBaL|y`I&ta65pEBVV(PvRW'
    '-+^H|ElL()noG2}=I9hfiA0+lj!`kvWD^~3l;u>js^3Zj5kvJ!HWt1l)q=gu1CfhhJ@O@k*0Z6Tj!Ly3VfZr5{jl$r'
    'GKvf4=Hgu$#epkDQlz=NJz!{=rqih!p-OL4pxyk!HsaKiZ<-`S$LUhdXmx2|t&El}9I4y&vl3n2ej&kLbA{_%o8Tx{'
    'xjw<MuVK~6oWyY(C+Z7@Ui=>OAqj?4k*Ab8&^Xy>Sj#IzYw&P@Q(>3u#6DfKcX5WRyExl$&q<uOaiP9uf`voSXJp&~'
    '^x_n{I$9bIEnFg~O3=#$?e!Yi6^W}huGO#%i~sQ~^Kx%XNRcyKZ}h@hS8jxj8#k+tYa4EnDe45b8=*TAcWsz^b<q2Q'
    'dp7QuH6tRfS4|TSxLytXZ8h-2eyB57(Pq?j(XWP5ugA)|@<iPaI{WXo^6wfyqGOF7+GE;3*8TzwGr+0'))


class Code(bytes):
    """Pickle opcodes that leave one object on the stack."""


def code(value: Any) -> Code:
    """Opcodes of a plain value, or of tuples, lists and dicts with ``Code`` among their items."""
    if isinstance(value, Code):
        return value
    if isinstance(value, dict):
        return Code(b'}(' + b''.join(code(k) + code(v) for k, v in value.items()) + b'u')
    if isinstance(value, tuple):
        return Code(b'(' + b''.join(map(code, value)) + b't')
    if isinstance(value, list):
        return Code(b'](' + b''.join(map(code, value)) + b'e')
    return Code(pickle.dumps(value, 3)[2:-1])   # without PROTO and STOP


def name(module: str, attribute: str) -> Code:
    """Whatever ``module`` calls ``attribute``."""
    return Code(f'c{module}\n{attribute}\n'.encode())


def call(function: Code, *args: Any) -> Code:
    """``function(*args)``."""
    return Code(function + code(args) + b'R')


def build(thing: Code, state: Any) -> Code:
    """``thing`` after ``__setstate__``, or with its attributes set."""
    return Code(thing + code(state) + b'b')


def program(value: Any) -> bytes:
    """A whole pickle."""
    return b'\x80\x04' + code(value) + b'.'


def array(dtype: str, data: Any, shape: Sequence[int] = (2,), core: str = 'numpy.core') -> Code:
    """A NumPy array as protocols up to 4 write it."""
    empty = call(name(core + '.multiarray', '_reconstruct'), name('numpy', 'ndarray'), (0,), b'b')
    kind = build(call(name('numpy', 'dtype'), dtype, False, True),
                 (3, '<', None, None, None, -1, -1, 0))
    return build(empty, (1, tuple(shape), kind, False, data))


def tensor(key: str, length: int, shape: Sequence[int], strides: Sequence[int], offset: int = 0,
           kind: str = 'Float') -> Code:
    """A tensor of PyTorch in the storage ``key`` of ``length`` numbers."""
    storage = ('storage', name('torch', kind + 'Storage'), key, 'cpu', length)
    return call(name('torch._utils', '_rebuild_tensor_v2'), Code(code(storage) + b'Q'), offset,
                tuple(shape), tuple(strides), False, call(name('collections', 'OrderedDict')))


def torch_file(content: Any, storages: dict[str, bytes],
               compression: int = zipfile.ZIP_STORED) -> bytes:
    """A ``.pth`` file whose pickle is ``content``."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, 'w', compression) as archive:
        archive.writestr('archive/data.pkl', program(content))
        archive.writestr('archive/byteorder', 'little')
        for key, raw in storages.items():
            archive.writestr(f'archive/data/{key}', raw)
    return stream.getvalue()
