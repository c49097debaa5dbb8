"""Real servers on one machine: PostgreSQL and Kafka for the demo and for the end-to-end tests."""
