"""The science: network, loss, planes, bundle, engine, training and the rendered data set."""
