-- As of a device (history_raw_of_device.sql), but of whatever hung in the zone at the time.
SELECT * FROM (
    SELECT r.recorded_at, m.device_id, m.device, m.position, m.quantity, m.channel, r.value, m.unit,
           r.reliability / 100.0::double precision, r.causes, m.series_id
      FROM (SELECT p.device_id, v.device, p.position, p.valid_from, p.valid_to, s.series_id, s.quantity, s.channel, s.unit
              FROM iot_service.device_locations p
              JOIN iot_service.iot_devices v USING (device_id)
              JOIN iot_service.series s USING (device_id)
             WHERE p.location_id = %(location_id)s AND p.valid_from < %(to_at)s AND p.valid_to > %(from_at)s
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
