"""Start the processes of distributed training, on this machine and on others."""
