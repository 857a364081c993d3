-- A decoder that stands goes on reading them: its readings are computed again when another rule comes.
WITH gone AS (
    DELETE FROM iot_service.raw_frames f
     WHERE f.created_at < now() - %(days)s * interval '1 day'
       AND NOT EXISTS (SELECT FROM iot_service.corrections c
                        WHERE c.device_id = f.device_id AND c.kind = 'decoder' AND c.was_profile = f.profile
                          AND c.from_at <= f.last_at AND c.to_at > f.first_at
                          AND NOT EXISTS (SELECT FROM iot_service.corrections w WHERE w.withdraws = c.number))
    RETURNING f.frames
)
SELECT COALESCE(sum(frames), 0)::bigint FROM gone
