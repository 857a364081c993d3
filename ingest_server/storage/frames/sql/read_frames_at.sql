SELECT f.profile, f.content FROM iot_service.raw_frames f
 WHERE f.device_id = %(device_id)s
   AND EXISTS (SELECT FROM unnest(%(times_us)s::bigint[]) AS t (at_us)
                WHERE timestamptz 'epoch' + at_us * interval '1 microsecond' BETWEEN f.first_at AND f.last_at)
 ORDER BY f.block_id
