"""This task's data: pairs of pictures in DIR/input and DIR/target, matched by name.

    get_training_data(DIR, {"patch_size": 256})    random crops, chosen by (epoch, index)
    get_validation_data(DIR, {"patch_size": 256})  centre crops; with 0, whole pictures
    get_test_data(DIR)                             pictures without targets

mprnet/data/paired.py describes what they return. To train on other data, define functions with these names here.
"""

from mprnet.data.paired import get_test_data, get_training_data, get_validation_data

__all__ = ["get_test_data", "get_training_data", "get_validation_data"]
