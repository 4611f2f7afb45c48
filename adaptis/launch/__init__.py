"""Start the processes of a distributed training, here and on other machines."""
