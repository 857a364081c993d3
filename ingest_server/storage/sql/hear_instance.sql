-- A beat that is new counts against its instance if a later instance has spoken already. One may be a straggler of a
-- process that is gone; two say that both are alive.
INSERT INTO iot_service.gateway_instances AS i (gateway_id, instance, last_beat)
VALUES (%(gateway_id)s, %(instance)s, %(beat)s)
ON CONFLICT (gateway_id, instance) DO UPDATE
   SET last_heard_at = now(),
       beats_after_successor = i.beats_after_successor + CASE WHEN excluded.last_beat > i.last_beat AND EXISTS (
               SELECT FROM iot_service.gateway_instances s
                WHERE s.gateway_id = i.gateway_id AND s.first_heard_at > i.first_heard_at) THEN 1 ELSE 0 END,
       last_beat = GREATEST(i.last_beat, excluded.last_beat)
RETURNING i.last_beat > %(beat)s, i.beats_after_successor >= 2
