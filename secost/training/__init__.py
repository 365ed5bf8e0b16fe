"""What attention gains when it is trained here: data sets, the loop, checkpoints, one network that holds all options.

Takes a network and a training, gives its accuracy. Imports networks/ and plan/.
"""
