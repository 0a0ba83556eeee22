"""This task's data: pairs of pictures in DIR/input and DIR/target, matched by name.

    get_training_data(DIR, {"patch_size": 256})    random crops, addressed by (epoch, index)
    get_validation_data(DIR, {"patch_size": 256})  centre crops, or whole pictures with 0
    get_test_data(DIR)                             pictures without targets

What they give stands at their definitions. To train on data of another layout, define functions of these names here.
"""

from mprnet.data.paired import get_test_data, get_training_data, get_validation_data

__all__ = ["get_test_data", "get_training_data", "get_validation_data"]
