//! SendAuth approvals of any size, as its documentation shows them: a longer one has more transactions.

use std::fmt::Write as _;

/// The approval with this number, of about so many bytes, as JSON text.
#[must_use]
pub(crate) fn approval(number: u32, bytes: usize) -> String {
    let mut body = format!(
        r#"{{"id":"apr_{number:016x}","state":"verified","authGroup":{{"id":"grp_payments","name":"Payments","threshold":"2","description":"Two of five"}},"requestor":"user@example.com","context":"pay invoice 4711","createdAt":"2026-11-01T10:00:00Z","completedAt":"2026-11-01T10:05:00Z","message":"Please approve","tags":{{"environment":"production"}},"payload":{{"invoice":4711,"amount":12.50}},"transactions":["#
    );
    for nth in 0.. {
        let mut transaction = String::new();
        // Writing into a String does not fail.
        write!(
            transaction,
            r#"{{"id":"txn_{nth:016x}","subject":"usr_{nth:08x}","subjectName":"Approver {nth}","state":"verified","completedAt":"2026-11-01T10:04:00Z","requestor":"user@example.com","context":"pay","createdAt":"2026-11-01T10:00:00Z","expiresAt":"2026-11-01T11:00:00Z","message":"approve","userMessage":"ok","tags":{{"team":"finance"}}}}"#
        )
        .unwrap_or_default();
        if nth > 0 && body.len() + transaction.len() + 3 > bytes {
            break;
        }
        if nth > 0 {
            body.push(',');
        }
        body.push_str(&transaction);
    }
    body.push_str("]}");
    body
}
