//! NATS identities as events: the native host.
