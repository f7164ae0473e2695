"""The contract: what passes between services and what subscribers may rely on. Holds no I/O."""
