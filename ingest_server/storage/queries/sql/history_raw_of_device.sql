-- Of each series so many from its index, in the order of time; then so many of all. With ties: a page never ends
-- between readings of one time, so that the next one begins behind that time.
SELECT * FROM (
    SELECT r.recorded_at, m.member_id, m.device, m.position, m.quantity, m.channel, r.value, m.unit,
           r.reliability / 100.0::double precision, r.causes, m.series_id
      FROM (SELECT l.member_id, v.device, NULL AS position, l.valid_from, l.valid_to, s.series_id, s.quantity, s.channel, s.unit
              FROM iot_service.device_lineage l
              JOIN iot_service.iot_devices v ON v.device_id = l.member_id
              JOIN iot_service.series s ON s.device_id = l.member_id
             WHERE l.device_id = %(device_id)s AND l.valid_from < %(to_at)s AND l.valid_to > %(from_at)s
               AND (%(reading_type)s::text IS NULL OR s.quantity = %(reading_type)s)) m
     CROSS JOIN LATERAL (
        SELECT r.recorded_at, r.value, r.reliability, r.causes
          FROM iot_service.sensor_readings r
         WHERE r.series_id = m.series_id AND r.recorded_at >= %(from_at)s AND r.recorded_at < %(to_at)s
           AND r.recorded_at >= m.valid_from AND r.recorded_at < m.valid_to
         ORDER BY r.recorded_at
         FETCH FIRST %(most)s ROWS WITH TIES) r
     ORDER BY r.recorded_at
     FETCH FIRST %(most)s ROWS WITH TIES) page
 ORDER BY recorded_at, series_id, value
