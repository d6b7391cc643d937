"""K samples of the predictions for a batch of inputs."""
