//! Orders by customer, folded from the stream: one SQLite file.

use super::event::Event;
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};
use serde::Serialize;
use std::error::Error;
use std::path::Path;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS reached (one INTEGER PRIMARY KEY CHECK (one = 1), sequence INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS customers (
    customer TEXT PRIMARY KEY, orders INTEGER NOT NULL, cents INTEGER NOT NULL, invoices INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS unread (sequence INTEGER PRIMARY KEY, reason TEXT NOT NULL);
";

/// The rows, and how far on the stream they have come.
pub struct Projection {
    connection: Connection,
}

/// Orders of one customer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Customer {
    /// Who.
    pub customer: String,
    /// How many.
    pub orders: i64,
    /// For how much in all.
    pub cents: i64,
    /// Invoices that were asked for.
    pub invoices: i64,
}

/// A message that could not be read, and changed nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unread {
    /// Where it stands.
    pub sequence: i64,
    /// Why.
    pub reason: String,
}

/// Everything that is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// Sequence of the last message that is in.
    pub reached: i64,
    /// By name.
    pub customers: Vec<Customer>,
    /// By sequence.
    pub unread: Vec<Unread>,
}

impl Projection {
    /// Makes the file, or opens it where it is there.
    pub fn open(path: &Path) -> Result<Self, Box<dyn Error>> {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // Acknowledged is what stays: a commit is on the disk.
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch(TABLES)?;
        Ok(Self { connection })
    }

    /// Folds the message of a sequence: rows and sequence in one transaction. False where it is in already, for a message whose
    /// acknowledgement nobody heard comes again.
    pub fn apply(&mut self, sequence: u64, event: Result<&Event, String>) -> Result<bool, Box<dyn Error>> {
        let sequence = i64::try_from(sequence)?;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let reached = reached(&transaction)?;
        if sequence <= reached {
            return Ok(false);
        }
        if sequence > reached + 1 {
            let message = format!(
                "the consumer is at {sequence}, and this file has come to {reached}: what lies between would be missing; \
                 delete the consumer and this file, and set up anew"
            );
            return Err(message.into());
        }
        let add = |customer: &str, orders: i64, cents: i64, invoices: i64| {
            transaction.execute(
                "INSERT INTO customers VALUES (?1, ?2, ?3, ?4) ON CONFLICT (customer) DO UPDATE SET \
                 orders = orders + ?2, cents = cents + ?3, invoices = invoices + ?4",
                params![customer, orders, cents, invoices],
            )
        };
        match event {
            Ok(Event::OrderPlaced(placed)) => add(&placed.customer, 1, placed.cents, 0)?,
            Ok(Event::InvoiceRequested(requested)) => add(&requested.customer, 0, 0, 1)?,
            // Whoever folds this stream again finds the same.
            Err(reason) => {
                transaction.execute("INSERT INTO unread VALUES (?1, ?2)", params![sequence, reason])?
            }
        };
        transaction.execute("INSERT OR REPLACE INTO reached VALUES (1, ?1)", [sequence])?;
        transaction.commit()?;
        Ok(true)
    }

    /// All of it, as of one moment.
    pub fn shown(&mut self) -> Result<Shown, Box<dyn Error>> {
        let transaction = self.connection.transaction()?;
        let customers = transaction
            .prepare("SELECT customer, orders, cents, invoices FROM customers ORDER BY customer")?
            .query_map([], |row| {
                Ok(Customer {
                    customer: row.get(0)?,
                    orders: row.get(1)?,
                    cents: row.get(2)?,
                    invoices: row.get(3)?,
                })
            })?
            .collect::<Result<_, _>>()?;
        let unread = transaction
            .prepare("SELECT sequence, reason FROM unread ORDER BY sequence")?
            .query_map([], |row| Ok(Unread { sequence: row.get(0)?, reason: row.get(1)? }))?
            .collect::<Result<_, _>>()?;
        Ok(Shown { reached: reached(&transaction)?, customers, unread })
    }
}

fn reached(transaction: &Transaction<'_>) -> rusqlite::Result<i64> {
    let found = transaction.query_row("SELECT sequence FROM reached", [], |row| row.get(0)).optional()?;
    Ok(found.unwrap_or(0))
}
