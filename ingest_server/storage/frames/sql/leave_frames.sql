WITH gone AS (
    DELETE FROM iot_service.raw_frames WHERE block_id = %(block_id)s AND %(left)s = 0
)
UPDATE iot_service.raw_frames
   SET frames = %(left)s, content = %(content)s, first_at = timestamptz 'epoch' + %(first_us)s * interval '1 microsecond',
       last_at = timestamptz 'epoch' + %(last_us)s * interval '1 microsecond'
 WHERE block_id = %(block_id)s AND %(left)s > 0
