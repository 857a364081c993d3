INSERT INTO iot_service.raw_frames (device_id, profile, firmware, first_at, last_at, frames, content)
SELECT s.device_id, b.profile, b.firmware, timestamptz 'epoch' + b.first_us * interval '1 microsecond',
       timestamptz 'epoch' + b.last_us * interval '1 microsecond', b.frames, b.content
  FROM unnest(%(series_ids)s::int[], %(profiles)s::text[], %(firmwares)s::text[], %(first_us)s::bigint[],
              %(last_us)s::bigint[], %(counts)s::int[], %(contents)s::bytea[])
       AS b (series_id, profile, firmware, first_us, last_us, frames, content)
  JOIN iot_service.series s USING (series_id)
