//! Durable memory: signal states, outbox, receipts, history.
