-- The conditions on `readings` and `indices` keep two replays of one entry from both writing it, and one from going by a
-- payload that an erasure has made shorter.
UPDATE iot_service.quarantine
   SET readings = %(left)s, indices = %(indices)s::int[], released = released + readings - %(left)s,
       replayed_at = CASE WHEN %(left)s = 0 THEN now() END
 WHERE quarantine_id = %(quarantine_id)s AND readings = %(was)s
   AND indices IS NOT DISTINCT FROM %(were)s::int[] AND replayed_at IS NULL
RETURNING quarantine_id
