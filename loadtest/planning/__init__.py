"""What a fleet needs: replicas, machines, shards, memory, network; from measured figures."""
