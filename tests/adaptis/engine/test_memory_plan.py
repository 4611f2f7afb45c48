"""The memory of a graph that MXNet logs, counted by hand."""
from __future__ import annotations

import pytest

from adaptis.config import config_from_dict
from adaptis.engine.memory_plan import TapeNode, graph_memory, parse_plan, unrecorded_peak
from adaptis.engine.memory_sizes import MadeUpImages, data_facts, largest_size
from adaptis.errors import AdaptisError
from adaptis.types import TOY_TAXONOMY

# y = relu(w * x), loss = sum(y): x is a batch of 2 KiB, w a parameter of 1 KiB, shared by its rows.
LOG = '''
[06:18:40] ../src/executor/../common/exec_utils.h:299: node 0 var
[06:18:40] ../src/executor/../common/exec_utils.h:299: node 1 var
[06:18:40] ../src/executor/../common/exec_utils.h:301: node 2 broadcast_mul
[06:18:40] ../src/executor/../common/exec_utils.h:305: \t\tinput 0: [2,256] (2 KB)
[06:18:40] ../src/executor/../common/exec_utils.h:305: \t\tinput 1: [1,256] (1 KB)
[06:18:40] ../src/executor/../common/exec_utils.h:311: \t\toutput 2: [2,256] (2 KB)
[06:18:40] ../src/executor/../common/exec_utils.h:301: node 3 Activation
[06:18:40] ../src/executor/../common/exec_utils.h:305: \t\tinput 2: [2,256] (2 KB)
[06:18:40] ../src/executor/../common/exec_utils.h:311: \t\toutput 3: [2,256] (2 KB)
[06:18:40] ../src/executor/../common/exec_utils.h:301: node 4 sum
[06:18:40] ../src/executor/../common/exec_utils.h:305: \t\tinput 3: [2,256] (2 KB)
[06:18:40] ../src/executor/../common/exec_utils.h:311: \t\toutput 4: [1] (0 KB)
[06:18:40] ../src/executor/../common/exec_utils.h:299: node 5 var
[06:18:40] ../src/executor/../common/exec_utils.h:301: node 6 _backward_sum
[06:18:40] ../src/executor/../common/exec_utils.h:305: \t\tinput 5: [1] (0 KB)
[06:18:40] ../src/executor/../common/exec_utils.h:311: \t\toutput 6: [2,256] (2 KB)
[06:18:40] ../src/executor/../common/exec_utils.h:301: node 7 _backward_Activation
[06:18:40] ../src/executor/../common/exec_utils.h:305: \t\tinput 6: [2,256] (2 KB)
[06:18:40] ../src/executor/../common/exec_utils.h:305: \t\tinput 3: [2,256] (2 KB)
[06:18:40] ../src/executor/../common/exec_utils.h:311: \t\toutput 7: [2,256] (2 KB)
[06:18:40] ../src/executor/../common/exec_utils.h:301: node 8 _backward_broadcast_mul
[06:18:40] ../src/executor/../common/exec_utils.h:305: \t\tinput 7: [2,256] (2 KB)
[06:18:40] ../src/executor/../common/exec_utils.h:305: \t\tinput 0: [2,256] (2 KB)
[06:18:40] ../src/executor/../common/exec_utils.h:305: \t\tinput 1: [1,256] (1 KB)
[06:18:40] ../src/executor/../common/exec_utils.h:311: \t\toutput 8: [2,256] (2 KB)
[06:18:40] ../src/executor/../common/exec_utils.h:311: \t\toutput 9: [1,256] (1 KB)
a line of something else
'''.splitlines()


def config(**joint):
    stage = {'batch_size': 2, 'steps': 1, 'optimizer': {'lr': 0.1}, **joint}
    return config_from_dict({'data': {'root': 'nowhere', 'augmentation': 'none',
                                      'dataset': joint.pop('dataset', 'coco')},
                             'model': {'name': 'condinst_r50'}, 'joint': stage}, 'x')


def test_arrays_count_from_the_operator_that_makes_them_to_the_last_that_reads_them():
    found = graph_memory(parse_plan(LOG), [(1, 256)])
    # The backward pass of relu needs its output, and that of the product needs its inputs.
    assert found.kept == 2048
    # relu and the product forwards; relu and the gradient of it backwards, written in place.
    assert found.peak == 4096
    assert found.inputs == 2048 + 4     # the batch and the gradient of the loss, not the parameter
    assert found.largest == 512


def test_half_precision_takes_half_the_bytes():
    nodes = parse_plan([line.replace('(2 KB)', '(1 KB)') for line in LOG])
    assert nodes[2].outputs[0].bytes == 1024 and nodes[2].inputs[1].bytes == 1024


def test_operators_without_gradient_hold_their_outputs_until_they_are_read():
    tape = [TapeNode((), {1: 100}, True), TapeNode((1,), {2: 10}, False),
            TapeNode((2,), {3: 20}, False), TapeNode((3,), {4: 5}, False),
            TapeNode((1,), {5: 100}, True)]
    # While the second runs: 10 + 20, and half of what is kept, as half of it has been made.
    assert unrecorded_peak(tape, kept=80) == 30 + 40
    assert unrecorded_peak([], kept=80) == 0


@pytest.mark.parametrize('stage, image, size', [
    (dict(crop=[400, 800], scale=[0.2, 1.2]), None, (400, 800)),
    (dict(crop=64, full_size_steps=5), (96, 128), (96, 128)),
    (dict(crop=[100, 200], scale=[0.5, 1.5], crop_first=True), None, (150, 300)),
    (dict(short_side=[640, 800], max_side=1333), None, (1333, 1333)),
    (dict(short_side=[640, 800], max_side=1333), (1024, 2048), (666, 1333)),
    (dict(short_side=512), (1024, 2048), (512, 1024)),
    (dict(), (96, 128), (96, 128)),
])
def test_the_largest_batch_of_a_config(stage, image, size):
    assert largest_size(config(**stage).joint, image, 'joint') == size


def test_a_config_without_limits_asks_for_the_size():
    with pytest.raises(AdaptisError, match='joint has neither crop nor max_side.*--size'):
        largest_size(config().joint, None, 'joint')


def test_the_data_set_need_not_be_there():
    taxonomy, size = data_facts(config())
    assert (len(taxonomy), taxonomy.num_things, size) == (133, 80, None)


def test_made_up_images_have_a_grid_of_objects():
    sample = MadeUpImages(TOY_TAXONOMY, (80, 160), 1)[0]
    assert sample.image.shape == (80, 160, 3) and sample.instances.max() == 64
    assert set(sample.classes.values()) == {1}
