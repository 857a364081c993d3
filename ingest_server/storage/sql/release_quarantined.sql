-- The condition on `readings` keeps two replays of one entry from both writing it.
UPDATE iot_service.quarantine
   SET readings = %(left)s, indices = %(indices)s::int[], released = released + readings - %(left)s,
       replayed_at = CASE WHEN %(left)s = 0 THEN now() END
 WHERE quarantine_id = %(quarantine_id)s AND readings = %(was)s AND replayed_at IS NULL
RETURNING quarantine_id
