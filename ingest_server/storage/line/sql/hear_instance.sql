-- A beat counts against its instance if it was sent after a later instance had begun to speak. One may be a straggler
-- of a process that is gone; two say that both are alive. When it was sent is not when it is entered: beats of a dead
-- process may have waited at several workers while the database was away. So it is when it arrived, less what it had
-- been under way beyond the fastest status of the same instance, which its own clock tells, right or wrong. No status is
-- under way for an hour: the clock was set back.
WITH arrived AS (
    SELECT clock_timestamp() - %(age_s)s * interval '1 second' AS at
), timed AS (
    SELECT a.at, (extract(epoch FROM a.at) * 1000000)::numeric - %(sent_at_us)s::numeric AS delay_us FROM arrived a
), known AS (
    SELECT t.at, CASE WHEN abs(t.delay_us) < 4611686018427387904 THEN t.delay_us::bigint END AS delay_us,
           i.least_delay_us
      FROM timed t
      LEFT JOIN iot_service.gateway_instances i ON i.gateway_id = %(gateway_id)s AND i.instance = %(instance)s
), spoken AS (
    SELECT at - CASE WHEN delay_us - least_delay_us BETWEEN 0 AND 3600000000 THEN delay_us - least_delay_us ELSE 0 END
                * interval '1 microsecond' AS at, delay_us
      FROM known
)
INSERT INTO iot_service.gateway_instances AS i (gateway_id, instance, last_beat, first_heard_at, least_delay_us)
SELECT %(gateway_id)s, %(instance)s, %(beat)s, at, delay_us FROM spoken
ON CONFLICT (gateway_id, instance) DO UPDATE
   SET last_heard_at = now(),
       beats_after_successor = i.beats_after_successor + CASE WHEN excluded.last_beat > i.last_beat AND EXISTS (
               SELECT FROM iot_service.gateway_instances s
                WHERE s.gateway_id = i.gateway_id AND s.first_heard_at > i.first_heard_at
                  AND s.first_heard_at < excluded.first_heard_at) THEN 1 ELSE 0 END,
       last_beat = GREATEST(i.last_beat, excluded.last_beat),
       least_delay_us = CASE WHEN excluded.least_delay_us - i.least_delay_us > 3600000000 THEN excluded.least_delay_us
                             ELSE LEAST(i.least_delay_us, excluded.least_delay_us) END
RETURNING i.last_beat > %(beat)s, i.beats_after_successor >= 2
